"""What several adapters use: clocks, headers, envelopes and names."""

"""What ``FlowStore`` offers, in parts by concern; ``flowstore.store`` puts them together."""

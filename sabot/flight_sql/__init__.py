"""The messages of the Arrow Flight SQL protocol and the Arrow schemas of its answers; knows no transport."""

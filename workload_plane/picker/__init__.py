"""The endpoint picker: which replica, or which peer, is to answer a request; asked by Envoy."""

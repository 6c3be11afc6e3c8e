"""Fleet values to protobuf messages and back, total both ways.

The doors (operator API, link, client) call it; nothing else sees a protobuf message.
"""

"""The admin dashboard: pages for a browser, drawn here from what the operator API answers.

Every page and action is a call with the signed-in operator's own credential through the operator
port: its doors decide, and nothing here reads the store. main.py starts it (`site.py`).
"""

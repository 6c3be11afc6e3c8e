"""The operator API, skerry.api.operator.v1, over the store, the planner and the link.

`main.py` builds `operator_service.OperatorService`; each method validates, calls and converts.
"""

"""How a gateway types a refusal that says nothing against the request: another plane may serve it.

A header, so that HTTP answers and gRPC statuses are told apart from the same status of another
cause by the same word. Gateways write it, clients read it.
"""

REFUSAL_HEADER = "x-skerry-refusal"
# The plane does not lie in the residency zones that the deployment's requests are kept to.
RESIDENCY = "residency"

"""The relay: streams that go on at another replica or plane when the one that gave them dies."""

"""What the scenarios are told with: a world per scenario, traffic, a log of the route, faults, and control of the operator.

Holds no scenario and no expectation about the product; those are the files in e2e/scenarios.
"""

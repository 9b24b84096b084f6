"""Who answers a prompt somewhere else: the teacher that writes examples, and whoever judges.

In: requests (`interfaces.LlmRequest`). Out: replies, each paid for once. May import the ground and the run's files.
"""

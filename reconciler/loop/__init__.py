"""When: triggers, the queue with one serial worker per server, schedules, windows, rollouts, health."""

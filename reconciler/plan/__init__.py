"""Pure: desired against recorded (and observed) becomes a plan, a value that alone drives an apply."""

"""What is asked: selection, plan, submit, admission under the brake, control, undo."""

"""Rows of a MuJoCo task live on a screen, while they are trained or tested."""

"""What the bridge costs: `python -m bench`, beside a bare pipe in the same run. Not part of the wheel."""

"""Many runs that differ in some keys of their config: which they are, how they are run, and what came of them."""

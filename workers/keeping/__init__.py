"""What the keeper does beside the lease: doubts and mail exchangers."""

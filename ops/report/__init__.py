"""What `berth report` writes: the evidence of one deployment, as a page and as Markdown."""

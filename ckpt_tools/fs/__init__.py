"""Files: paths of this machine, of other machines and URLs; bounded reads; durable writes."""

"""EKS: the API in `service`, what it made in `state`, and what runs behind it in `controller`."""

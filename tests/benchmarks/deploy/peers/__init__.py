"""What `deploy/hosts.py` compares with: each peer brings hosts to the same state as `orchestrate up`."""

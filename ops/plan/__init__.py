"""What `berth plan` computes: memory, throughput, prices, costs and time, before anything is created."""

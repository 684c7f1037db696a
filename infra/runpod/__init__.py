"""RunPod serverless as Pulumi resources: REST v2 client, dynamic providers, and their component."""

"""What a stack has left, or has now, in its AWS account and on RunPod: looked for, never changed."""

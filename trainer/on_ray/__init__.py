"""Where Ray hosts the training: workers, launches, jobs of a cluster, what they show."""

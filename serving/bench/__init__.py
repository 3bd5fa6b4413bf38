"""Our server beside what others would write. Needs the extra `bench`; the product does not."""

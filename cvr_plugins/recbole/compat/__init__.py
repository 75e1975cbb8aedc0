"""RecBole on today's packages: found by name, told what it lacks, and the process left as it was."""

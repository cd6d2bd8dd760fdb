"""Reports on runs: tables and one HTML page. Run folders are all that is read here, never a live model."""

//! Fetches, caches and bundles what vendors sign about platforms.

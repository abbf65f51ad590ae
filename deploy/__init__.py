"""From a checkout to a service: keys and certificates, start kits for sites, supervised Flower processes, runs."""

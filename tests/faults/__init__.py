"""Real processes under a seeded schedule of faults, and one oracle that says what must hold afterwards.

Read in this order: ``schedule`` (a seed's faults, pure), ``world`` (PostgreSQL on a small disk, two services, proxies
between them), ``faults`` (what each fault does to the world, and how it is undone), ``storm`` (the sender of webhooks),
``oracle`` (what is demanded), ``run`` (one schedule from its first fault to the verdict).
"""

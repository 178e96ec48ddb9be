from hypothesis import settings

# A busy machine is no counter-example: every test has its time-out already.
settings.register_profile("relay", deadline=None)
settings.load_profile("relay")

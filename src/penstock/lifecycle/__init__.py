"""What happens to a job after it was accepted: one file per thing that can happen.

Never imports `penstock.api`: the two meet in the database.
"""

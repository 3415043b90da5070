"""The store on SQLAlchemy Core: tables, the codec between values and JSON, and the adapter.

Only this package imports sqlalchemy.
"""

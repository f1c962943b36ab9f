"""The store: artifacts here and in shared places, verified, handed on and tidied."""

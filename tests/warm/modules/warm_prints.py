print("hello from an import")

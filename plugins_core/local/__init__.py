"""The built-in plugin ``local``: payloads as files below the data folder."""

import os

VALUE = os.environ.get("WARM_SETTING", "unset")

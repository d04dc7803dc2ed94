import threading

threading.Thread(target=threading.Event().wait, daemon=True, name="busybody").start()

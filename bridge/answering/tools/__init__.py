"""Tool calls written as text: how tools are shown to models, and how their calls are written, read and compared."""

"""Models that were made elsewhere: how their files are read, and what stands between them and a pipeline.

Files come from anywhere. Each reader looks at a file before anything of it is built: sizes, names and kinds first. It
raises `NotLearnable` for what cannot be served, with what was expected and what came.
"""

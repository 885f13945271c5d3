"""CPython's test.test_multiprocessing_fork; ours, for some interpreters ship its classes and not itself."""

import substitute

substitute.classes_for("fork", globals())

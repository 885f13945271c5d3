"""CPython's test.test_multiprocessing_spawn; ours, for some interpreters ship its classes and not itself."""

import substitute

substitute.classes_for("spawn", globals())

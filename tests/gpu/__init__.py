"""What only a GPU can tell, as calls of under ten minutes for a machine that is at hand for minutes at a time.

    python -m tests.gpu correct OUT              # every method and kind of task gives the CPU's results
    python -m tests.gpu speed OUT                # seconds of scoring at n = 50,000, memory, and the bandwidth's floor
    python -m tests.gpu training OUT             # images a second of the image presets; where a training's time goes
    python -m tests.gpu cifar10n OUT --data-dir DATA     # three kinds of noise, all methods, both protocols
    python -m tests.gpu paper OUT --data-dir DATA        # the published recipe on the worst labels, one seed

A call is made of steps. Each step's result goes into OUT as soon as it is known, and the same command does what is
missing, so a call may be cut off at any moment. `tests/gpu/wheels.txt` lists what a usual PyTorch image lacks.
"""

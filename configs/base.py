"""Every key that an experiment may set, with its type and its default.

The dictionary is locked: a key that is not here raises wherever it is set, in a file or on the command line.
A placeholder is a key without a value: the chosen network, optimizer or schedule has the default, the data set has the
rest, and the run folder's config.json records what came of it.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Return a locked config: LeNet-5 on nothing in particular."""
    config = ConfigDict()
    config.seed = 0  # of initial parameters, order of images, augmentation and dropout
    # What layers compute in: float32 or bfloat16; parameters stay float32. TPUs, and GPUs since Ampere, round what they
    # multiply in float32 to fewer digits, unless JAX_DEFAULT_MATMUL_PRECISION=highest says otherwise.
    config.precision = "float32"

    config.model = model = ConfigDict()
    # lenet5: modern, 1998; alexnet: torchvision, 2012, caffenet, bvlc; vgg: D, A, A-LRN, B, C, E, of which vgg11,
    # vgg13, vgg16 and vgg19 are A, B, D and E; lenet1d: for series; mlp. The first variant is the default.
    model.name = "lenet5"
    model.variant = placeholder(str)
    model.activation = placeholder(str)  # lenet5 modern, lenet1d, mlp: relu, tanh, scaled_tanh, identity
    model.pooling = placeholder(str)  # lenet5 modern, lenet1d: max, average
    model.widths = placeholder(tuple)  # lenet5 modern, lenet1d: maps that each convolution makes
    model.kernels = placeholder(tuple)  # lenet5 modern, lenet1d: side of each convolution's kernels
    model.padding = placeholder(tuple)  # lenet5 modern, lenet1d: pixels of zeros around what each convolution sees
    model.pools = placeholder(tuple)  # lenet5 modern, lenet1d: side of the pooling behind each convolution; 1: none
    model.hidden = placeholder(tuple)  # lenet5 modern, lenet1d, mlp: units of each hidden dense layer
    model.dropout = placeholder(float)  # probability of zeroing a unit of a dense layer
    model.batch_norm = placeholder(bool)  # vgg: batch normalisation behind each convolution
    # alexnet, vgg, lenet5 modern, lenet1d: initial kernels: lecun, glorot, gaussian (as VGG's paper has it), he, torch
    model.init = placeholder(str)

    config.dataset = dataset = ConfigDict()
    # digits, idx:FOLDER, npz:FILE (or npz:PREFIX of _train.npz, _val.npz, _test.npz), folder:ROOT of class folders
    # (or of train/, val/, test/ with class folders), tfds:NAME[/CONFIG][:VERSION], cache:FOLDER (of scripts.prepare),
    # features:FOLDER (of scripts.extract)
    dataset.source = "digits"
    dataset.data_dir = placeholder(str)  # tfds: folder of prepared sets; else TFDS_DATA_DIR or ~/tensorflow_datasets
    dataset.skip_bad_images = False  # folder: leave files out that cannot be used, instead of stopping
    dataset.stream = placeholder(bool)  # decode photos batch by batch, not once into memory; the data decides
    dataset.workers = 0  # processes that decode for training; 0: threads, until Python's lock is the limit
    dataset.image_size = 32  # side of the images that the network sees, in pixels; None: as the weights or the network
    dataset.resize = "bilinear"  # how they get there: nearest, bilinear, bicubic, or pad (with zeros, on all sides)
    dataset.crop = 1.0  # share of the shorter side that the middle crop keeps; 0.875: 224 of 256 pixels
    dataset.validation = 0.1  # training images set aside to choose the best checkpoint: a share below 1, or a count
    dataset.test = placeholder(float)  # the same, for the test; only for sources that have no test images of their own
    dataset.permutation = placeholder(int)  # seed of one order of the pixels, the same for all images
    dataset.only_classes = placeholder(tuple)  # names of the classes that are used, in the order of their labels
    dataset.per_class = placeholder(int)  # training images a class that are used; by default all
    dataset.split_seed = 0  # of those choices, so that `seed` varies the training and not the examination
    dataset.classes = placeholder(int)  # the data has it: largest label + 1, or the number of class names
    dataset.class_names = placeholder(tuple)  # the data has them
    dataset.class_ids = placeholder(tuple)  # what other sources call the same classes, such as WordNet's numbers
    dataset.channels = placeholder(int)  # the data has it
    dataset.channel_order = "RGB"  # in which the network takes colours: RGB or BGR; everywhere else they are RGB
    dataset.mean = placeholder(tuple)  # of the training images by channel, pixels being 0..1; the data has it
    dataset.std = placeholder(tuple)
    dataset.covariance = placeholder(tuple)  # of the channels, row by row; the data has it

    # Each is the largest change; the amount is drawn anew for every image.
    config.augment = augment = ConfigDict()
    augment.shift = 0  # whole pixels, in both directions; zeros come in
    augment.rotate = 0.0  # degrees
    augment.scale = 0.0  # 0.1: by a factor of 0.9 to 1.1, in each direction for itself
    augment.shear = 0.0  # 0.1: by a tenth of the height
    augment.pad_and_crop = 0  # pixels of mirrored border, of which a crop takes a part
    augment.flip = False  # left and right, every other image
    augment.random_resized_crop = 0.0  # smallest share of a photo's area that a random crop keeps; 0 switches it off
    augment.scale_jitter = ()  # least and most pixels that a photo's shorter side is scaled to before a random crop
    augment.trivial_augment = False  # one of fourteen changes of shape or colour, by any amount
    augment.mixup = 0.0  # parameter of the Beta distribution by which two images are blended; 0 switches it off
    augment.cutmix = 0.0  # the same, of the share that a rectangle of another image takes
    augment.color_noise = 0.0  # deviation of AlexNet's colour noise, in deviations of each principal component

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "sgd"  # sgd, adamw
    optimizer.momentum = placeholder(float)  # sgd
    optimizer.nesterov = placeholder(bool)  # sgd
    optimizer.b1 = placeholder(float)  # adamw
    optimizer.b2 = placeholder(float)  # adamw
    optimizer.weight_decay = 0.0  # sgd: added to the gradient; adamw: decoupled from it
    optimizer.decay_all = False  # also biases and the scales and shifts of normalisation
    optimizer.clip_norm = 0.0  # largest norm of the whole gradient; 0 switches it off

    config.schedule = schedule = ConfigDict()
    schedule.name = "cosine"  # constant, step, cosine, one_cycle
    schedule.learning_rate = 0.1  # the highest
    schedule.warmup_epochs = 0.0  # rising from 0 (one_cycle: from a tenth of the highest) to the highest
    schedule.milestones = placeholder(tuple)  # step: the epochs at which the rate falls
    schedule.factor = placeholder(float)  # step: what it is multiplied by

    config.train = train = ConfigDict()
    train.epochs = 10.0
    train.batch_size = 128  # images a step, over all devices
    train.accumulate = 1  # parts that a batch is computed in, one after the other, where memory is short
    train.label_smoothing = 0.0  # the share of the target that is spread evenly over all classes
    train.ema = 0.0  # decay of the moving average of parameters that is evaluated and kept; 0 switches it off

    config.transfer = transfer = ConfigDict()
    # scratch: the network begins with random weights. The others begin with `weights`. finetune: all layers learn.
    # frozen: those behind the stage `frozen_until` do. stored: the same, but that stage's activations are computed once
    # and stored. By default stored where weights are given, else scratch.
    transfer.mode = placeholder(str)
    transfer.weights = placeholder(str)  # a run folder, or a file that scripts.import_weights reads
    # frozen, stored: the last stage that is frozen; by default all but the last
    transfer.frozen_until = placeholder(str)
    transfer.layer_decay = 1.0  # finetune: each layer learns at so many times the rate of the one behind it
    transfer.store = placeholder(str)  # stored: folder of the activations; by default in the run folder
    transfer.dtype = "float32"  # stored: what they are stored as: float32, float16, bfloat16
    transfer.views = 0  # stored: augmented views of each training image; 0: the middle crop alone
    # vgg: run folder of a trained net A, whose first four convolutions and dense layers a deeper net starts with
    transfer.net_a = placeholder(str)

    config.mesh = mesh = ConfigDict()
    mesh.data = placeholder(int)  # groups of devices; by default as many as there are devices for
    mesh.model = 1  # devices of a group, which share the kernels of dense layers; all of all groups share a batch

    config.checkpoint = checkpoint = ConfigDict()
    checkpoint.keep = 1  # the last so many, besides the best
    checkpoint.every_steps = 0  # between evaluations too; each evaluation writes one anyway

    config.evaluate = evaluate = ConfigDict()
    evaluate.batch_size = 500
    evaluate.every_epochs = 1.0
    # How scripts.evaluate looks at images unless told: center, ten_crop, multi_crop, dense, multi_scale
    evaluate.protocol = "center"
    evaluate.scales = placeholder(tuple)  # shorter sides of the image at which it is looked at, in pixels
    evaluate.report = True  # at the end, report.html: curves, mistakes, what is inside, test images trained on

    config.log = log = ConfigDict()
    log.every_steps = 50  # between two lines of metrics.jsonl
    log.tensorboard = True

    return config.lock()

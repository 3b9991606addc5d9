"""zoo:mnist-rnn to the letters of Omniglot's Greek, Latin and Korean: PTU beside fine-tuning and others.

Of every letter's 20 drawings 14 are for training, 3 for validation, 3 for the test; 28x28 pixels; batches of 128. The
learning rate is the one with the best validation accuracy of 0.01 and 0.001, for fine-tuning 0.0001 too (Zhang et al. 2018,
table 2). Every network learns for 800 epochs at most, of three to five batches, until 150 epochs have not lowered the
validation loss. PTU is as its defaults have it: it starts as fine-tuning does, from the source and a logistic regression,
and its answer reads early, middle and late states beside the last.

``--drawings changed`` is not of the paper: every way then learns from drawings shifted by up to 2 pixels, turned by up to 15
degrees, zoomed by up to 15% and sheared by up to a fifth. ``make bench-omniglot`` runs it; it needs ../shared.
"""

import statistics

import numpy as np
import records

SOURCE, STATE = "zoo:mnist-rnn", "step27_tanh"
ALPHABETS = {"Greek": 0.5139, "Latin": 0.6795, "Korean": 0.55}  # and what PTU reached in the paper
AUGMENT = {"plain": None, "changed": {"shift": 2, "rotation": 15, "zoom": 0.15, "shear": 0.2}}
SEEDS = range(5)
WAYS = ("neighbours", "scratch", "fine-tune", "ptu")


def read_alphabet(path, alphabet):
    """Images (n, 28, 28) uint8, ink 255, and the letters they are of."""
    from PIL import Image

    data = np.load(path)
    chosen = data["alphabet"] == alphabet
    drawings = np.unpackbits(data["images_packed"][chosen], axis=-1)[..., :105] * np.uint8(255)
    small = [np.asarray(Image.fromarray(drawing).resize((28, 28), Image.Resampling.BOX), float) for drawing in drawings]
    return np.stack([np.round(255 * image / image.max()) for image in small]).astype(np.uint8), data["character"][chosen]


def split(images, labels, seed):
    """Images and labels of the three parts."""
    random = np.random.default_rng(seed)
    orders = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    parts = [np.concatenate([order[start:stop] for order in orders]) for start, stop in ((0, 14), (14, 17), (17, 20))]
    return [(images[part], labels[part]) for part in parts]


def candidates(way, seed, validation, augment):
    """The classifiers among which the validation accuracy chooses."""
    import xfer2

    if way == "neighbours":
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        flat = FunctionTransformer(lambda images: images.reshape(len(images), -1) / 255)
        return [make_pipeline(flat, KNeighborsClassifier(count)) for count in (1, 3, 5, 10)]
    given = {"batch_size": 128, "num_epochs": 800, "patience": 150, "augment": augment, "random_state": seed,
             "validation": validation}
    if way == "fine-tune":
        return [xfer2.NeuralNetworkFineTuneRepurposer(SOURCE, STATE, intermediate_layers=(), learning_rate=rate, **given)
                for rate in (0.01, 0.001, 0.0001)]
    if way == "scratch":
        return [xfer2.NeuralNetworkRandomFreezeRepurposer(SOURCE, random_layers="*", learning_rate=rate,
                                                          **given) for rate in (0.01, 0.001)]
    return [xfer2.PtuRepurposer(SOURCE, learning_rate=rate, **given) for rate in (0.01, 0.001)]


def accuracy(path, drawings, alphabet, way, seed):
    """On the test images, of the candidate that is best on the validation images."""
    train, validation, test = split(*read_alphabet(path, alphabet), seed)
    fitted = [one.fit(*train) for one in candidates(way, seed, validation, AUGMENT[drawings])]
    best = max(fitted, key=lambda one: one.score(*validation))
    return {"drawings": drawings, "alphabet": alphabet, "way": way, "seed": seed, "accuracy": best.score(*test)}


def main():
    parser = records.comparison_parser(__doc__)
    parser.add_argument("--drawings", choices=AUGMENT, default="plain")
    arguments = parser.parse_args()
    path = arguments.shared / "data" / "omniglot_small1.npz"
    keys = [(arguments.drawings, alphabet, way, seed) for alphabet in ALPHABETS for seed in SEEDS for way in WAYS]
    found = records.compare(accuracy, path, ("drawings", "alphabet", "way", "seed"), keys, arguments)
    for alphabet, published in ALPHABETS.items():
        print(f"\nTest accuracy, {alphabet}, {arguments.drawings} drawings")
        means = {}
        for way in WAYS:
            values = [found[arguments.drawings, alphabet, way, seed]["accuracy"] for seed in SEEDS]
            means[way] = statistics.mean(values)
            print(f"  {way:10s} {means[way]:.4f}   {' '.join(f'{value:.3f}' for value in values)}", flush=True)
        print(f"  PTU beyond fine-tuning: {100 * (means['ptu'] / means['fine-tune'] - 1):+.1f}% (bound 5); "
              f"the paper's PTU {published:.4f}")


if __name__ == "__main__":
    main()

"""zoo:cifar10-cnn learns CIFAR-100 classes, ten at a time, 100 images of each: what is learned, and what forgotten.

Fine-tuning and Learning without Forgetting train alike: all layers, SGD with momentum at one rate, shifted and mirrored
images, as many epochs, no validation images; the new layer of fine-tuning reads the features alone, as the literature's
does. The old task is the test images of CIFAR-10, for measuring only. Then two more tasks follow.
``make bench-forgetting`` runs it; it needs ../shared.
"""

import statistics

import records
from records import draw, read_cifar100, read_records

SOURCE = "zoo:cifar10-cnn"
TASKS = {"first": range(10), "second": range(10, 20), "third": range(20, 30)}
SHOTS = 100
SEEDS = range(5)
SETTINGS = {"validation": 0, "transferred_rate": 1.0, "optimizer": "sgd", "optimizer_params": {"momentum": 0.9},
            "learning_rate": 0.02, "clip_gradient": 5.0, "augment": {"flip": True, "shift": 2}}


def learned(data, way, seed):
    """New accuracy and the old task's, before and after, of fine-tuning; of the other way after each task too."""
    import xfer2

    tasks, old = data
    settings = {**SETTINGS, "random_state": seed, "task_name": "first", "old_data": old}
    # without distillation it is fine-tuning, step by step (a test)
    weight = {"distillation_weight": 0, "intermediate_layers": ()} if way == "fine-tune" else {}
    repurposer = xfer2.LwfRepurposer(SOURCE, **weight, **settings)
    repurposer.fit(*draw(*tasks["first"]["train"], SHOTS, seed))
    found = {"way": way, "seed": seed, "new": repurposer.score(*tasks["first"]["test"]),
             "before": repurposer.forgetting_[0]["before"], "old": [repurposer.forgetting_[0]["after"]]}
    if way != "fine-tune":
        for name in ("second", "third"):
            repurposer.add_task(name, *draw(*tasks[name]["train"], SHOTS, seed))
            found["old"].append(repurposer.forgetting_[-1]["after"])
        found["all"] = [repurposer.score(*tasks[name]["test"], task=name) for name in TASKS]
    return found


def main():
    arguments = records.comparison_parser(__doc__).parse_args()
    tasks = {name: read_cifar100(arguments.shared, labels) for name, labels in TASKS.items()}
    old = read_records(arguments.shared / "data" / "cifar10_test.rec")
    keys = [(way, seed) for seed in SEEDS for way in ("fine-tune", "lwf")]
    found = records.compare(learned, (tasks, old), ("way", "seed"), keys, arguments)
    tuned, ours = ([found[way, seed] for seed in SEEDS] for way in ("fine-tune", "lwf"))
    print("seed  fine-tune: new, old task before and after   lwf: new, old task after 1, 2 and 3 tasks, all tasks then")
    for seed, plain, kept in zip(SEEDS, tuned, ours, strict=True):
        print(f"{seed:4d}  {plain['new']:.3f}  {plain['before']:.4f} {plain['old'][0]:.4f}   {kept['new']:.3f}  "
              + " ".join(f"{value:.4f}" for value in kept["old"]) + "  "
              + " ".join(f"{value:.3f}" for value in kept["all"]))

    def points(values):
        return 100 * statistics.mean(values)

    gain = points(o["new"] - t["new"] for o, t in zip(ours, tuned, strict=True))
    lost = points(t["before"] - t["old"][0] for t in tuned)
    print(f"new task: lwf {gain:+.1f} points beyond fine-tuning (bound -1)")
    print(f"old task after one new task: fine-tuning loses {lost:.1f} points (bound: over 15), lwf "
          f"{points(o['before'] - o['old'][0] for o in ours):.1f} (bound 5)")
    print(f"old task after three new tasks: lwf loses {points(o['before'] - o['old'][2] for o in ours):.1f} (bound 10)")


if __name__ == "__main__":
    main()

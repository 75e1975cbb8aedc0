"""PARS on browsing sessions with RecBole, by script: the next item, and which items of a session are bought."""

from cvr_plugins.cli.configs import find_config
from cvr_plugins.recbole import run
from cvr_plugins.recbole.evaluation import as_table


def main(epochs: int = 50) -> dict[str, dict[str, float | None]]:
    # MovieLens-100k cut into sessions of about 14 ratings, a rating of 5 for a purchase: it tries the machinery.
    found = run(
        "PARS",
        config_file_list=[find_config("ml-100k-sessions")],
        config_dict={"epochs": epochs, "show_progress": False},
        saved=False,
    )
    table = as_table(found.test_result)
    print("next item     with its history  without")
    for name in ("ndcg", "hit"):
        kept, left_out = (table["model"][f"{name}{suffix}@10"] for suffix in ("", "withouthistory"))
        print(f"{name + '@10':13s} {kept:16.4f} {left_out:8.4f}")
    print(f"\n{'in a session':13s}" + "".join(f"{scorer:>18s}" for scorer in table))
    for name in ("sessionauc", "sessiongauc", "sessionhr@1", "sessionndcg@3"):
        print(f"{name:13s}" + "".join(f"{scores[name]:18.4f}" for scores in table.values()))
    counts = found.test_result
    print(f"\n{counts['sessions/total']} sessions, of which {counts['sessions/without_purchase']} bought nothing")
    return table


if __name__ == "__main__":
    main()

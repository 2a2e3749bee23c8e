from modeling_toxmtl.data.statistics import hours_by_label


def test_hours_count_each_label_and_once_in_total():
    hours = hours_by_label([(("Profanity", "Other"), 3600.0), (("Other",), 1800.0)])
    assert (hours["Profanity"], hours["Other"], hours["Total"]) == (1.0, 1.5, 1.5)

"""What is promised under failure, put to the proof: kills, full disks, damage, load.

    python -m torture                    all of it, about twenty minutes on two cores
    python -m torture kills damage       some of it
    python -m torture load --size 0.1    a tenth of the kills, bits or seconds

Needs Linux. Everything is drawn and stored in a temporary folder; servers listen on
127.0.0.1. What is shown, and the last figures, are in docs/reliability.md.
"""

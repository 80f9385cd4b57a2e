"""`make bench BENCH=turns`: does it know when to stop, when to go on and when to answer?"""

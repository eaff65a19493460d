"""The parts that all requests share: caller, body and its memory budget, writing of answers, log line."""

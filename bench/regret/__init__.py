"""The regret of `breakeven.map`: its time over that of the best way in hindsight, over a grid of workloads."""

from budgetnet.train import Recipe as Recipe

"""The stores that runs see."""
